"""The same training in NumPy float64, its rounding, and known discrepancies."""
