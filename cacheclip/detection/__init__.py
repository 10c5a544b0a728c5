"""Detection on cached regions: proposals are classified, found again by class, and scored."""
