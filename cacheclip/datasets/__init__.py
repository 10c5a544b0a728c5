"""Where images, labels and class names come from: one data set or prefix a file."""
