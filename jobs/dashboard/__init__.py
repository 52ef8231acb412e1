"""The dashboard: the original's page as plain pages of HTML, which need no script."""
