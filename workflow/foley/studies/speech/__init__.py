"""Do synthetic backgrounds in training make speech recognition robust? Speakers kept apart, exact ratios, arms."""
