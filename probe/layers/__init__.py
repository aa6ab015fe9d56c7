"""Which layer of a MODEL makes the tickets that work: measured, and tried."""
