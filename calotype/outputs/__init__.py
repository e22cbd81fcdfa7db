"""Results on disk: which pictures are meant, what each result is called, saving, skipping what is done, sidecar,
comparison, report, and making a result again. What every door needs of a result. Importing it needs no torch."""
