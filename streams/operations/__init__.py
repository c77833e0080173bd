"""What an operator does with the log: rebuild, redrive, import."""
