"""What runs a stage: its context, the runner on Faust, the runner in memory, the watchdog."""
