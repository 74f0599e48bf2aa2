// Package e2e tests the built binary the way its users meet it: a real process
// on the real kernel, scraped by a real Prometheus. It holds tests only.
//
// What Collector's integration suites assert is asserted here, or closer to what does
// it; this is where:
//
//	CollectorStartup          TestScriptRoot (run, stop), TestStopLeavesNothingBehind
//	Prometheus                TestEveryFamilyLives, TestExpositionPassesLint, TestNegotiation, TestPrometheusQuantileIsTrue
//	GetStatus                 TestShapes (ready), TestNotReady, TestStuckEventPath
//	LogLevelEndpoint          TestSetLogLevel
//	IntrospectionAPI          TestShapes, TestLiteralShapes, TestPagesAndContainers, TestBadParameters
//	Gperftools                TestRecords, TestProfiles
//	RingBuffer                TestFaults (limits.ringBytes), TestStoppedReaderLosesEventsNotCounts
//	ProcessNetwork            TestSessionWritesWhatHappened, TestExecCarriesItsTexts, TestExecCarriesWhoItBecame, TestIntrospectionShowsWhoTalks
//	HostPidProcess            TestIntrospectionShowsEveryProcess, TestResolveV2
//	SymbolicLinkProcess       TestEndpointsLeadToTheirProcess
//	Threads                   TestEndpointsLeadToTheirProcess
//	Socat                     TestEndpointsLeadToTheirProcess
//	ProcessListeningOnPort    TestEndpointsLeadToTheirProcess, TestBriefListenerIsSeen
//	DuplicateEndpoints        TestListenerBegunAgain
//	ProcfsScraper             TestIntrospectionShowsWhoTalks, TestSeed, TestListedSockets
//	MissingProcScrape         TestNearlyEmptyProc
//	RepeatedNetworkFlow       TestRepeatedFlowInAfterglow, TestRepeatedFlowWithoutAfterglow, TestAfterglowMatrix, TestTCPCountsConnectionsExactly
//	ConnectionsAndEndpoints   TestTCPRolesAreNotThePorts, TestUDPEventsTellTheFlow, TestUDPSeededRoles, TestServerKeepsItsPortClientThePeers
//	AsyncConnection           TestAsynchronousConnects, TestTCPCountsFailedConnects
//	UdpNetworkFlow            TestUDPSendAndReceiveCalls, TestUDPFlowsOfOneSocket
//	RuntimeConfigFile         TestExternalIPsSwitchedInTheFile, TestScriptRoot (reload), TestFaults, TestStoreRollsBack
//	K8sConfigReload           TestWatchConfigMap, TestScriptRoot (reload)
//	K8sNamespace              TestContainerd, TestWorkloadMetrics, TestShapes (error_container)
//	PerfEventOpen             TestOtherTracersKeepTheirEvents
//	ImageLabelJSON            TestPodman
//	Benchmark                 TestScrapeWithManySockets, TestIdleCost, TestChurn, and package bench
package e2e
