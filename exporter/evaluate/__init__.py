"""`exporter evaluate`: how good a model or a finished file is, on labelled photographs."""
