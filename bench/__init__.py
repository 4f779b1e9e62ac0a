"""What the README's numbers come from. Only ratios of one run count: machines are noisy."""
