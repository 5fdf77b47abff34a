"""Redis: journals, leases, cached answers and passages. The only importer of its client."""
