"""Several speakers as one: playout of each, levels, sum, one encoder. Synchronous and sans-IO."""
