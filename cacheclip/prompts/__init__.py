"""From class names to prompts: templates, spelling, and which templates are used together."""
