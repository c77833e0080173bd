"""Live tables: windows, listening, trending, anomalies."""
