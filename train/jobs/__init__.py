"""Several processes on one job: their shared loss, their shared files, and the commit they ran at."""
