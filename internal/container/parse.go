package container

import (
	"slices"
	"strings"
)

// ID names one container of this node. It is comparable and never changes while
// the container lives.
type ID struct {
	// Namespace is containerd's own namespace of a container whose name its user
	// chose; empty for the 64 hexadecimal digits that all other runtimes draw.
	Namespace string
	Name      string
}

// shortLen is how many digits of a drawn id people use.
const shortLen = 12

// String returns the whole id, "namespace/name" where there is a namespace.
func (id ID) String() string {
	if id.Namespace == "" {
		return id.Name
	}
	return id.Namespace + "/" + id.Name
}

// ParseID is the inverse of String.
func ParseID(text string) ID {
	if namespace, name, ok := strings.Cut(text, "/"); ok {
		return ID{namespace, name}
	}
	return ID{Name: text}
}

// Short returns the first 12 digits of a drawn id, and any other id whole.
func (id ID) Short() string {
	if id.Namespace == "" && len(id.Name) > shortLen {
		return id.Name[:shortLen]
	}
	return id.String()
}

// Ref is what a cgroup path says about the container it belongs to.
type Ref struct {
	ID      ID
	Runtime Runtime // Unknown where the path does not tell
	PodUID  string  // of a Kubernetes pod, with dashes; empty where the path does not tell
	// Guess marks a path that looks like one of containerd's with a chosen name
	// and may be anybody's directory: it is a container only if containerd says so.
	Guess bool
}

// prefixes are what runtimes put before the id in the name of a scope (systemd
// driver) or directory (cgroupfs driver). What is not here is no container: the
// monitors libpod-conmon-… and crio-conmon-… live outside of what they watch.
var prefixes = map[string]Runtime{
	"docker":         Docker,
	"cri-containerd": Containerd,
	"containerd":     Containerd,
	"nerdctl":        Containerd,
	"crio":           CRIO,
	"libpod":         Podman,
	"libpod-payload": Podman, // cgroups=split: beside its monitor, in the service's own cgroup
}

// Parse tells which container a cgroup belongs to, from the path alone: that of
// the innermost part that a container runtime has named, so that a container in a
// container is itself and every cgroup below a container is that container's.
// Paths from inside a cgroup namespace ("/../../…") are accepted.
func Parse(path string) (Ref, bool) {
	var buffer [24]string // paths deeper than that cost an allocation
	parts := split(buffer[:0], path)
	for i, part := range slices.Backward(parts) {
		name, runtime, slice, ok := parsePart(part)
		if !ok {
			continue
		}
		if i > 0 && runtime == Unknown {
			if parts[i-1] == "libpod_parent" {
				continue // a pod of podman's, not a container
			}
			if parts[i-1] == "docker" {
				runtime = Docker
			}
		}
		return Ref{ID: ID{Name: name}, Runtime: runtime, PodUID: podUID(parts[:i], slice)}, true
	}
	return guess(parts)
}

// split appends the components of a path to parts.
func split(parts []string, path string) []string {
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return parts
}

// parsePart recognises the forms of one component: the bare id, "runtime-id",
// "runtime-id.scope", and "slice:runtime:id", which is what a runtime configured
// for systemd leaves on a host whose kubelet is not.
func parsePart(part string) (name string, runtime Runtime, slice string, ok bool) {
	if isDrawn(part) {
		return part, Unknown, "", true
	}
	if at := strings.LastIndexByte(part, ':'); at >= 0 {
		slice, prefix, ok := cutLast(part[:at], ':')
		runtime, known := prefixes[prefix]
		return part[at+1:], runtime, slice, ok && known && isDrawn(part[at+1:])
	}
	prefix, name, ok := cutLast(strings.TrimSuffix(part, ".scope"), '-')
	runtime, known := prefixes[prefix]
	return name, runtime, "", ok && known && isDrawn(name)
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if at := strings.LastIndexByte(s, sep); at >= 0 {
		return s[:at], s[at+1:], true
	}
	return "", s, false
}

// isDrawn reports whether s is an id as runtimes draw them: 64 hexadecimal digits.
func isDrawn(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// podUID returns the uid of the nearest pod around: "pod<uid>" with the cgroupfs
// driver, "…-pod<uid>.slice" with systemd's, where dashes must be underscores.
func podUID(around []string, slice string) string {
	if uid := podUIDOf(slice); uid != "" {
		return uid
	}
	for _, part := range slices.Backward(around) {
		if uid := podUIDOf(part); uid != "" {
			return uid
		}
	}
	return ""
}

func podUIDOf(part string) string {
	at := strings.LastIndex(part, "pod")
	if at < 0 || at > 0 && part[at-1] != '-' {
		return ""
	}
	uid := strings.ReplaceAll(strings.TrimSuffix(part[at+len("pod"):], ".slice"), "_", "-")
	switch {
	case len(uid) == 36 && uid[8] == '-' && uid[13] == '-' && uid[18] == '-' && uid[23] == '-' && isHex(strings.ReplaceAll(uid, "-", "")):
		return uid
	case len(uid) == 32 && isHex(uid): // static pods: the hash of their manifest
		return uid
	}
	return ""
}

// notNamespaces are first components that are no namespace of containerd's.
var notNamespaces = []string{"docker", "kubelet", "kubepods", "libpod_parent", "lxc", "machine", "system", "user"}

// guess takes "/namespace/name[/…]" for a container that a user of containerd has
// named, if both could be names and nothing says otherwise.
func guess(parts []string) (Ref, bool) {
	if len(parts) < 2 || !isChosen(parts[0]) || !isChosen(parts[1]) || slices.Contains(notNamespaces, parts[0]) ||
		strings.HasPrefix(parts[0], "lxc.") {
		return Ref{}, false
	}
	return Ref{ID: ID{Namespace: parts[0], Name: parts[1]}, Runtime: Containerd, Guess: true}, true
}

// unitTypes are the suffixes of systemd's units, which no guess may have.
var unitTypes = []string{".slice", ".scope", ".service", ".mount", ".socket", ".swap", ".session"}

// isChosen reports whether containerd would accept s as an identifier: up to 76
// letters and digits, with single separators between them.
func isChosen(s string) bool {
	if s == "" || len(s) > 76 {
		return false
	}
	separated := true // as if one stood before the first character
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			separated = false
		case (c == '-' || c == '.' || c == '_') && !separated:
			separated = true
		default:
			return false
		}
	}
	return !separated && !slices.ContainsFunc(unitTypes, func(suffix string) bool { return strings.HasSuffix(s, suffix) })
}

// rootOf cuts a path after the component that made ref: cgroups below it are the
// container's own.
func rootOf(path string, ref Ref) string {
	at := strings.LastIndex(path, ref.ID.Name)
	if ref.Guess { // always the first two components
		at = len(path) - len(strings.TrimLeft(path, "/")) + len(ref.ID.Namespace)
	}
	if at < 0 {
		return path
	}
	rest := at + len(ref.ID.Name)
	if end := strings.IndexByte(path[min(rest, len(path)):], '/'); end >= 0 {
		return path[:rest+end]
	}
	return path
}
