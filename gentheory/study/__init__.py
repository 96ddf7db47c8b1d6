"""Studies: grids of models trained and measured, shard by shard, in a folder."""
