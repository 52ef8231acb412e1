"""The command line: one umbrella of verbs, and the few that stand alone under manage.py too."""
