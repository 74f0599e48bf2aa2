package event

import "bytes"

// secretNames are parts of names of variables whose values nobody should see.
var secretNames = [][]byte{
	[]byte("PASS"), []byte("SECRET"), []byte("TOKEN"), []byte("KEY"), []byte("CREDENTIAL"), []byte("AUTH"), []byte("COOKIE"),
}

// redact takes the values of secrets out of an environment, in place, and returns how
// long it is then: NAME= is what stays of such a variable.
func redact(env []byte) int {
	kept := 0
	for rest := env; len(rest) > 0; {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			end = len(rest)
		}
		keep := end
		if eq := bytes.IndexByte(rest[:end], '='); eq >= 0 && secret(rest[:eq]) {
			keep = eq + 1
		}
		next := min(end+1, len(rest))
		kept += copy(env[kept:], rest[:keep])
		kept += copy(env[kept:], rest[end:next])
		rest = rest[next:]
	}
	return kept
}

// secret reports whether a variable of that name holds a secret, in whichever case.
func secret(name []byte) bool {
	for _, part := range secretNames {
		for i := 0; i+len(part) <= len(name); i++ {
			if bytes.EqualFold(name[i:i+len(part)], part) {
				return true
			}
		}
	}
	return false
}
