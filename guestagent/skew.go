//go:build !skew_first && !skew_next

package guestagent

import "github.com/trove-dbaas/trove/guestapi"

// Agents of neighbouring releases, for tests that build them with a tag: skew_first is one of the first release, skew_next one that knows more than its
// controllers. In a shipped agent these do nothing.

func skewCommands(all []guestapi.Command) []guestapi.Command { return all }

func skewKnows(guestapi.Command) bool { return true }

func skewReport(data []byte) []byte { return data }

func skewAnswer(data []byte) []byte { return data }
