"""Neural collapse: moments of features by class, the frames they tend to, and estimates of both."""
