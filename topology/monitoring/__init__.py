"""What Podstream tells of itself while it runs: metrics and alerts, declared once."""
