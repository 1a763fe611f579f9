"""The iterative loop: rounds of generate, vote, curate, train and evaluate; and the demo."""
