package trove

// LogContainer is the container of published logs in each project; the name is OpenStack Trove's.
const LogContainer = "database_logs"
