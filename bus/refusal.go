package bus

// NotAccepted is what an enrolment endpoint says to a token or key that it does not take. A guest that says it has reached the endpoint, over a connection whose
// certificate it has verified.
const NotAccepted = "The token or key is not accepted."
