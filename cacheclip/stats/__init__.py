"""What the results log says of methods: from its rows and predictions alone, without torch."""
