"""The host: a Django project that runs the jobs app, configured by environment variables."""
