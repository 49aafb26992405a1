package wire

// Extension is a part of the API that is not its core.
type Extension struct {
	Name        string `json:"name"`
	Alias       string `json:"alias"`
	Description string `json:"description"`
	Namespace   string `json:"namespace"`
	Updated     string `json:"updated"`
	Links       []Link `json:"links"`
}

// ExtensionList holds all extensions.
type ExtensionList struct {
	Extensions []Extension `json:"extensions"`
}

// ExtensionBody wraps one extension.
type ExtensionBody struct {
	Extension Extension `json:"extension"`
}
