"""What every backend shares: the contract, the data, the plan, the judging. Knows no framework."""
