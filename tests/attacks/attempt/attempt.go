// Package attempt is what an attack in a guest tells the test about what it tried. It is plain data.
package attempt

// Act is one thing that was tried.
type Act struct {
	What string `json:"what"`
	// Own says that it is the control: the same act on something that is the guest's own. It must succeed, or the attack proves nothing.
	Own  bool   `json:"own,omitempty"`
	Done bool   `json:"done,omitempty"` // it succeeded
	Got  string `json:"got,omitempty"`  // what came of it: an error, an answer, what was read
}

// Report is all that an attack did.
type Report struct {
	Acts  []Act             `json:"acts"`
	Facts map[string]string `json:"facts,omitempty"`
}
