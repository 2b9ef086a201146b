"""How well a model does: agreement of poses. Imports engines and runtime."""
