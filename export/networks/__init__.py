"""Pose networks, by the parameter names of their public checkpoints."""
