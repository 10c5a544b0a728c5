"""The feature store: NumPy and h5py only, and every byte checked when it is read.

`schema` says what a store is made of, `key` what decides it. `writer` and `reader` are for image
features, `text` for prompts, `labels` for labels; `shard` is one shard and `hdf5` one file of any
of them. `home` is where all of it lies, `features` what stage two reads together, and `find` which
of these a command means.
"""
