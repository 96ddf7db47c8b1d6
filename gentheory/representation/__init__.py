"""What a net makes of its examples: features compared, decoded, merged; regions of ReLUs."""
