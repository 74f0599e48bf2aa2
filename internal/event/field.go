package event

// Fields is a set of what a session wants of an event beyond what its point always
// tells.
type Fields uint32

// The fields. What a sink's form always shows needs no field.
const (
	FieldTime Fields = 1 << iota
	FieldThreadID
	FieldThreadStart
	FieldGroupID
	FieldGroupStart
	FieldContainer
	FieldCredentials
	FieldCwd
	FieldProcessName
	FieldParentGroupID
	FieldExecSession
	FieldCapabilities
	FieldNamespaces
	FieldParent
	FieldAncestors
	FieldEnvironment
	FieldFDPath
	FieldDigest

	fieldEnd
)

// FieldRaw is no field by name: of a system call, only its bare arguments are wanted.
const FieldRaw Fields = 1 << 31

// fieldNames are the names that session files use, in the order of the values.
var fieldNames = []string{
	"time", "thread_id", "task_start_time", "group_id", "thread_group_start_time", "container_id",
	"credentials", "cwd", "process_name", "parent_thread_group_id", "is_exec_session",
	"capabilities", "namespaces", "parent", "ancestors", "envv", "fd_path", "binary_sha256",
}

// ParseField returns the field of that name.
func ParseField(name string) (f Fields, ok bool) {
	if name == "environment" || name == "env" { // what it is called elsewhere
		return FieldEnvironment, true
	}
	for i, known := range fieldNames {
		if known == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// Names returns the names of the fields in the set.
func (f Fields) Names() []string {
	names := []string{}
	for i, name := range fieldNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// AllFields is the set of all. The optional ones are told by some points only. UsualFields
// are those that cost nothing and disclose nothing that a session must ask for by name.
const (
	AllFields      = fieldEnd - 1
	OptionalFields = FieldEnvironment | FieldFDPath | FieldDigest
	UsualFields    = AllFields &^ (OptionalFields | FieldAncestors)
)
