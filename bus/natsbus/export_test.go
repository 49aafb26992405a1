package natsbus

// The decisions on time.
var (
	ClockSkew       = clockSkew
	DueIn           = dueIn
	CertificateTime = certificateTime
)
