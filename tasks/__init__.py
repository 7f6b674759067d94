"""The job types, one module each: `dataset.prepare` lives in `prepare_dataset`."""
