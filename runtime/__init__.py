"""Pictures in, people out: sources, preprocessing, PAF parsing, drawing, results."""
