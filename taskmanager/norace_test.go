//go:build !race

package taskmanager_test

const raceDetector = false
