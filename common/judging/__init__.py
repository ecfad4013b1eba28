"""From records to grades, first divergences and causes. No process and no clock."""
