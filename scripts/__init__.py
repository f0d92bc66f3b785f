"""Programs: the command line, the sandbox, and what gunicorn is started with."""
