"""`pose-daemon`: cameras that run for months, and who wants to know what they see."""
