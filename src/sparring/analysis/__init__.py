"""Why a defense works, or seems to: pure functions that measure networks, gradients and perturbations."""
