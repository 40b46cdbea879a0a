"""Encode data with trained models: any open_clip model on image-text shards, or a finished trial on its gallery.

`model.py` opens a model and its weights (`weights_file.py` reads files of any origin), `shards.py` encodes shards with
a cache, and `pairs.py` joins shards, labels and prompts for the metrics. `trial.py` encodes a trial of the ledger.
"""
