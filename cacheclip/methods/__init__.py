"""The methods, one file and one class each; `base` holds the contract and the look-up."""
