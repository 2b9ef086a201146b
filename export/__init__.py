"""From a PyTorch network to a proven bundle. Imports engines, runtime and calibration."""
