package mysqlfamily

// For the tests in package mysqlfamily_test.
var (
	GrantPattern = grantPattern
	GrantedName  = grantedName
	Quote        = quote
	CheckDB      = checkDatabase
)

// CheckHost checks a host for a product with this limit.
func CheckHost(host string, limit int) error { return (&Product{MaxHost: limit}).checkHost(host) }
