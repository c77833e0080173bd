"""How each process tells of itself: metrics, health, readiness."""
