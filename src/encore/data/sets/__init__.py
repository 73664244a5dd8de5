"""Named data sets, found by looking: each module holds an instance of `encore.data.named.NamedSet` as `SET`."""
