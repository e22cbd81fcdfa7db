"""Results on disk: inputs, file names, saving, skipping existing results, sidecars, comparisons, reports, and
reproduction. Used by all interfaces. Imports no torch."""
