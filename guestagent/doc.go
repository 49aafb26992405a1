// Package guestagent runs one database server inside one guest: it carries out the controllers' commands, supervises the server and reports.
//
// What it promises: a long command is journalled before it is answered, runs to its end across crashes of the agent, and its end is reported until
// a controller shows that it knows. The server is the agent's sibling, not its child in spirit: an agent that dies, by whatever signal,
// leaves it running, and the next one adopts it. After the first prepare the agent brings the server up by itself, with or without controllers.
//
// What it does not: it never touches the control plane's database, and it knows no product; package engine's drivers do. docs/guestagent.md
// has the processes, files and signals.
//
// An Agent is run once, by Run; its other methods and those of Supervisor and Journal may be called from several goroutines.
package guestagent
