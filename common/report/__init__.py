"""A comparison's result, and its forms: terminal, JSON, page, figures, JUnit, Markdown, CSV."""
