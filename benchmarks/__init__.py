"""`pose-bench`: measured accuracy and speed of bundles and of the parts that run them."""
