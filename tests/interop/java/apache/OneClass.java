import org.junit.runner.JUnitCore;
import org.junit.runner.Result;
import org.junit.runner.notification.Failure;

/** Plays one class of tests: a line for each that failed, with its trace, and one for all of them. */
public class OneClass {
    public static void main(String[] names) throws Exception {
        Result result = JUnitCore.runClasses(Class.forName(names[0]));
        for (Failure failure : result.getFailures()) {
            String message = String.valueOf(failure.getMessage()).replace('\n', ' ');
            System.out.println("\nFAILED " + failure.getDescription() + ": " + message + "\n" + failure.getTrace());
        }
        System.out.printf("%nCLASS ran %d failed %d ignored %d%n",
            result.getRunCount(), result.getFailureCount(), result.getIgnoreCount());
        System.out.flush();
        // The clients' threads would keep it alive.
        Runtime.getRuntime().halt(result.wasSuccessful() ? 0 : 1);
    }
}
